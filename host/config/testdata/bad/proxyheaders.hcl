dataplane "d" {}

listen "public" {
  proxy_headers = ["X-Ok", "authorization"]
}

listen "signaling" {
  proxy_headers = ["X-Ok"]
}

control_plane "c" {
  endpoint = "https://c.example"
}

plugins {
  directory = "plugins"
}
