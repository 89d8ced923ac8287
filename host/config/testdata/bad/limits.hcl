dataplane "d" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {
  weight = 0
}
participant_context "default" {
  limits {
    weight = 1001
  }
}
dataset "limited" {
  limits {
    bytes = "fast"
  }
}
limits {
  host {
    weight = 1
  }
  host {}
  flow {
    transfers = 2
  }
  counterparty {
    records   = "10 a second"
    transfers = 0
    bytes     = -1
    weight    = 1.5
  }
  participant {}
}
limits {}
transfer {
  watchdog {
    stalled_after = "10m"
    restart_after = "1m"
    trust_health  = "sometimes"
  }
}
