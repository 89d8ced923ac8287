dataplane "d" {}
plugins {
  directory = "plugins"
  trust     = "off"
}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
profile "https://w3id.org/dspace-sig/profile/http-pull" {
  endpoint_type = "HttpData"
  mode          = "later"
  renewal       = "on"
}
profile "https://w3id.org/dspace-sig/profile/http-push" {
  renewal   = "require"
  provision = ""
}
profile "x-pull" {
  strict = true
}
profile "y-push" {
  strict = "very"
}
dataset "a" {
  mode = "now"
  source "Generate" {}
}
