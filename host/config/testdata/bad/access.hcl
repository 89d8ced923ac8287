dataplane "d" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}

access {
  default = "perhaps"

  rule "a" {
    effect = "refuse"
    when   = counterpart == "did:web:them.example"
  }

  rule "b" {
    effect = "allow"
    when   = role == "provider" && tyme.hour > 3
  }

  rule "b" {
    effect = "allow"
    when   = true
  }

  rule "c" {
    effect = "allow"
    when   = participant.id == "x" || time.hours > 3
  }

  rule "d" {
    effect = "allow"
    when   = role
  }

  rule "e" {
    effect = "deny"
    when   = in_network(remote_address, "10.0.0.0") || headers.X-Tenant == secret("../token.secret")
  }

  rule "f" {
    when = true
  }

  decision_point {
    url        = "opa:8181"
    timeout    = "soon"
    on_failure = "retry"
    cache      = "1m"
    headers = {
      "X-Api-Key" = "hunter2"
      "Host"      = "x"
    }
  }

  decision_point {
    url = "https://other.example"
  }
}

access {
  default = "allow"
}
