dataplane "d" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
  renewal  = "tractusx"
  registration {
    destination_provision_types = ["HttpData"]
  }
}
control_plane "other" {
  endpoint = "https://cp.example.com"
  protocol = "edc"
  renewal  = "offer"
  registration {
    destination_provision_types = []
  }
}
plugins {
  directory = "plugins"
}
profile "http-pull" {}
