dataplane "d" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
plugin "kinds" {
  config {
    text    = ""
    number  = []
    by_name = { a = {} }
  }
}
