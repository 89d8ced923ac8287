dataplane "d" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
plugin "flie" {}
plugin "file" {}
plugin "other-file" {
  config {
    root = "/x"
  }
}
plugin "kinds" {
  config {
    txt     = "a"
    flag    = "perhaps"
    number  = 1.5
    span    = 30
    bytes   = "1GB"
    server  = "example.com"
    names   = "a"
    by_name = ["a"]
    colour  = "blue"
    unknown = true
  }
}
plugin "http" {
  config {
    timeout = ""
    allow   = { a = "b" }
  }
}
plugin "wrong-defaults" {}
plugin "synthetic" {
  server_side_copy = true
}
