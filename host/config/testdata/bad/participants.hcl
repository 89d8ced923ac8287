dataplane "d" {}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
control_plane "cp" {
  endpoint            = "https://cp.example.com"
  participant_context = "alcie"
}
dataset "a" {
  participant_context = "bobb"
  sink "Discard" {}
}
participant_context "alice" {
  did    = "did:web:alice.example/alice"
  key_id = "#key-1"
}
participant_context "alice" {}
participant_context "bob" {
  did              = "did:web:bob.example:8443"
  key              = ["bob.pem"]
  registration_key = "hunter2"
}
participant_context "carol" {
  key    = "carol.pem"
  key_id = "#key-1"
}
participant_context "dave" {
  did              = "did:web:dave.example"
  key_id           = "did:web:bob.example#key-1"
  registration_key = secret("../the.secret")
}
participant_context "eve" {
  did              = "did:web:dave.example"
  key_id           = "key-1"
  registration_key = secret("../token.secret")
}
participant_context "fred" {
  did              = "did:web:fred.example#key-1"
  registration_key = "${secret("../token.secret")}"
}
participant_context " " {
  did = ""
}
