dataplane "d" {}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
participant_context "alice" {
  registration_key = secret("../token.secret")
}
