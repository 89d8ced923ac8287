dataplane "d" {}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
control_plane "a" {
  endpoint = "http://cp.example.com"
  authorization "oauth2_client_credentials" {
    jwks_uri       = "http://idp.example.com/jwks"
    token_endpoint = "http://10.0.0.1/token"
    client_id      = "d"
    client_secret  = secret("../token.secret")
  }
  registration {
    authorization "oauth2_client_credentials" {
      token_endpoint = "http://idp.example.com/token"
      client_id      = "d"
      client_secret  = secret("../token.secret")
      jwks_uri       = "HTTP://idp.example.com/jwks"
    }
  }
}
control_plane "b" {
  endpoint = "http://cp.example.com"
  authorization "oauth2_token_exchange" {
    issuer                  = "http://idp.example.com"
    jwks_uri                = "http://[::1]/jwks"
    token_exchange_endpoint = "http://localhost.example.com/token"
    subject_token           = "token"
    audience                = "b"
    resource                = "http://b.example.com"
  }
}
