dataset "a" {
  sink "Discard" {
    digest = true
  }
}
