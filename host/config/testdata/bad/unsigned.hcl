dataplane "d" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
plugins {
  directory = "plugins"
  trust     = "signed"
}
profile "http-pull" {}
plugin "a" {}
