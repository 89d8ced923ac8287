dataplane "d" {}
plugins {
  directory = "plugins"
}
listen "signaling" {
  base_path = "/api/v1"
}
control_plane "dps" {
  endpoint       = "https://dps.example.com"
  token_lifetime = "10m"
}
control_plane "edc/1" {
  protocol           = "edc"
  endpoint           = "http://edc:9191/api/control/"
  callback_addresses = ["http://edc-0:9191/api/control/", "https://edc-1.example.com/x"]
  registration {}
}
control_plane "edc-2" {
  protocol = "edc"
  endpoint = "http://edc-2:9191/api/control"
  authorization "static" {
    header   = "x-api-key"
    inbound  = secret("../token.secret")
    outbound = secret("../the.secret")
  }
  registration {
    dataplane_endpoint = "http://dp/own/path"
    headers            = { "X-Tenant" = "a" }
    deregister_on_stop = true
  }
  token_lifetime = "24h"
}
profile "HttpData-PULL" {}
profile "AmazonS3-PUSH" {}
profile "My-Label-PULL-HttpData" {}
profile "Own-PUSH" {
  type = "AmazonS3"
}
profile "Mapped-PUSH" {
  types = { "Any" = "AmazonS3" }
}
profile "http-pull" {}
