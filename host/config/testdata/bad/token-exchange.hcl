dataplane "d" {}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
control_plane "missing" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_token_exchange" {
    token_exchange_endpoint = "https://broker.example.com/token"
  }
}
control_plane "no-endpoint" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_token_exchange" {
    issuer         = "https://broker.example.com"
    jwks_uri       = "https://broker.example.com/jwks"
    required_scope = "a b"
    subject_token  = "token"
    audience       = "cp"
    resource       = "https://cp.example.com/#x"
    scope          = ""
  }
}
control_plane "foreign" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_token_exchange" {
    issuer                  = "https://broker.example.com"
    jwks_uri                = "https://broker.example.com/jwks"
    jwks                    = file("../keys.json")
    insecure_skip_signature = true
    client_secret           = secret("../token.secret")
  }
}
