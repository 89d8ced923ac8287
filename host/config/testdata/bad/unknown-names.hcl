dataplan "d" {}

dataplane "d" {
  data_dri = "state"
}

control_plane "cp" {
  endpont = "https://cp.example.com"
}

plugins {
  directory = "plugins"
  trust     = "pined"
}

plugin "file" {
  sha_256 = "x"
  confg {
    root = "x"
  }
}

profile "http-pull" {
  allow_htpp = true
}

listen "signalling" {}

listen "admin" {
  url = "https://example.com"
  tsl {
  }
}

store "sqllite" {}

token {
  lifetme = "1h"
}

transfer {
  retry {
    frist = "1s"
  }
}

telemetry {
  log_level = "verbose"
}

dataset "x" {
  sorce "File" {}
}

stray = true
