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
  address = "0.0.0.0:18081"
}
listen "signaling" {
  address   = ":18082"
  base_path = "/a/../b"
}
listen "admin" {
  address = "localhost:18082"
}
