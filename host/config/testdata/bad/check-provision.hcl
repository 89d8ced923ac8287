dataplane "d" {}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
profile "a-pull" {
  provision = "Topci"
}
profile "b-pull" {
  provision = "Generate"
}
profile "c-pull" {
  provision = "Discard"
}
profile "d-pull" {
  provision = "Topic"
}
