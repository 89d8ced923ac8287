dataplane "d" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
listen "public" {
  url = "https://example.com/?x=1"
}
listen "admin" {
  address = "127.0.0.1:18081"
}
listen "signaling" {
  address = "[::1:1"
}
