dataplane "d" {}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
listen "signaling" {
  address = "0.0.0.0:8080"
}
control_plane "cp" {
  endpoint = "https://cp.example.com"
  authorization "static" {
    inbound = secret("../token.secret")
  }
  registration {
    endpoint           = "https://cp.example.com/management/dataplanes/"
    labels             = "eu"
    deregister_on_stop = "maybe"
    headers = {
      "X-Api-Key"     = "hunter2"
      "x-tenant"      = "a"
      "X-Tenant"      = "b"
      "Authorization" = "Bearer hunter2"
      "Cookie"        = env("TOWPATH_TEST_SET")
      "X Header"      = "x"
      "Host"          = "example.com"
      "X-List"        = ["a"]
      "X-Lines"       = secret("../broken.secret")
      "X-Empty"       = ""
    }
    authorization "oauth2_client_credentials" {
      token_endpoint = "ftp://idp.example.com/token"
      client_id      = ""
      client_secret  = "hunter2"
      jwks_uri       = "https://idp.example.com/jwks"
      jwks           = file("../keys.json")
    }
  }
}
control_plane "more" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_client_credentials" {
    jwks_uri = "https://idp.example.com/jwks"
  }
  registration {
    dataplane_endpoint = "dp"
    labels             = ["eu", ""]
    headers            = ["X-Api-Key", secret("../token.secret")]
    authorization "oauth2_client_credentials" {}
  }
}
control_plane "most" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_client_credentials" {
    jwks_uri = "https://idp.example.com/jwks"
  }
  registration {
    headers = { (secret("../token.secret")) = "x" }
    authorization "oauth2_token_exchange" {
      token_exchange_endpoint = "https://broker.example.com/token"
      jwks                    = file("../keys.json")
    }
  }
}
control_plane "static" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_token_exchange" {
    issuer   = "https://idp.example.com"
    jwks_uri = "https://idp.example.com/jwks"
  }
  registration {
    authorization "static" {
      inbound = secret("../token.secret")
    }
  }
}
