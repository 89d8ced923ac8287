dataplane "d" {}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
participant_context "folder" {
  did = "did:web:folder.example"
  key = "."
}
participant_context "open" {
  did = "did:web:open.example"
  key = "../host.pem"
}
participant_context "other" {
  did = "did:web:other.example"
  key = "../the.secret"
}
participant_context "public" {
  did = "did:web:public.example"
  key = "../open.secret"
}
participant_context "key" {
  did = "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169"
}
participant_context "jwk" {
  did    = "did:jwk:eyJrdHkiOiJFQyJ9"
  key    = "nowhere.pem"
  key_id = "did:jwk:eyJrdHkiOiJFQyJ9"
}
