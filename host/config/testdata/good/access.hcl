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
  default = "deny"

  rule "working hours" {
    effect = "deny"
    when   = time.hour < 6 || time.weekday == "sunday"
  }

  rule "gold members" {
    effect = "allow"
    when   = try(claims.tier, "") == "gold" && contains(labels, "eu")
  }

  decision_point {
    url     = "http://opa.internal:8181/decide?key=x"
    timeout = "500ms"
    headers = {
      "X-Api-Key" = secret("../token.secret")
      "X-Tenant"  = "a"
    }
  }
}
