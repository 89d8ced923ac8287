dataplane "minimal" {}

control_plane "cp" {
  endpoint = "https://cp.example.com/"
}

plugins {
  directory = "plugins"
}

profile "http-pull" {}
