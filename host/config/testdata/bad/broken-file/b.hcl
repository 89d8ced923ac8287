token {
  lifetime = "1"
}
dataplane "e" {}
