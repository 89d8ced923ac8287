dataplane "d" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
dataplane "e" {}
plugins {
  directory = "other"
}
control_plane "other" {
  endpoint = "https://other.example.com"
}
profile "http-pull" {}
dataset "a" {
  source "File" {
    path = "a"
    path = "b"
  }
  source "File" {
    path = "c"
  }
}
dataset "a" {
  sink "Discard" {}
}
plugin "file" {
  config {
    root = "/a"
  }
  config {
    root = "/b"
  }
}
plugin "file" {}
token {}
token {}
listen "admin" {}
listen "admin" {
  tls {
    certificate = "a"
    key         = "b"
  }
  tls {
  }
}
transfer {
  retry {}
  retry {}
}
plugin "http" {
  environment = {
    A   = "1"
    B   = "2"
    "A" = "3"
  }
}
control_plane "other" {
  endpoint = "https://other.example.com"
}
signaling {}
signaling {}
dataset "a" {
  mode = "sync"
  sink "Discard" {}
}
