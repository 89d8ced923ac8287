dataplane "d" {}
plugins {
  directory = "plugins"
}
control_plane "dps" {
  endpoint           = "https://dps.example.com"
  callback_addresses = ["https://dps-0.example.com"]
}
control_plane "another" {
  protocol = "ecd"
  endpoint = "https://dps.example.com"
}
control_plane "edc-1" {
  protocol           = "edc"
  callback_addresses = ["http://edc-0:9191/api?x=y"]
  token_lifetime     = "0s"
  authorization "oauth2_client_credentials" {
    insecure_skip_signature = true
  }
  registration {
    labels = ["eu"]
    authorization "oauth2_client_credentials" {
      token_endpoint = "https://idp.example.com/token"
      client_id      = "d"
      client_secret  = "s"
    }
  }
}
profile "HttpData-PULL" {
  direction = "push"
}
