dataplane "d" {
  data_dir = "state
}

listen "signaling" {
  address = = "127.0.0.1:1"
}

dataplan "e" {}
