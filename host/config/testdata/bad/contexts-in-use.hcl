dataplane "d" {}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
participant_context "alice" {
  did = "did:web:alice.example"
}
participant_context "bob" {
  registration_key = secret("../token.secret")
}
participant_context "carol" {}
control_plane "cp" {
  endpoint            = "https://cp.example.com"
  participant_context = "alice"
}
dataset "a" {
  sink "Discard" {}
}
dataset "a" {
  participant_context = "alice"
  sink "Discard" {}
}
dataset "a" {
  participant_context = "carol"
  sink "Discard" {}
}
dataset "a" {
  participant_context = "alice"
  source "Generate" {}
}
dataset "a" {
  source "Generate" {}
}
profile "x-pull" {
  renewal = "require"
}
