dataplane "d" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
plugin "file" {
  config {
    root = "/x"
  }
}
plugin "synthetic" {}
profile "a-push" {
  type = "Generate"
}
profile "b-pull" {
  type = "Discard"
}
profile "c-push" {
  types = {
    http = "HttpData"
    file = "File"
    disc = "Discrad"
  }
}
