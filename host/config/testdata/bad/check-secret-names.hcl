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
    text    = "x"
    by_name = { a = { (secret("../the.secret")) = "x" } }
    names   = [{ (secret("../the.secret")) = "x" }]
  }
}
