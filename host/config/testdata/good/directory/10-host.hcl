dataplane "merged" {}

control_plane "cp" {
  endpoint = "https://cp.example.com"
}

plugins {
  directory = "plugins"
  trust     = "off"
}
