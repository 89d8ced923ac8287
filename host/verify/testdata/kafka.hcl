config {
  allow = ["loopback"]
}

source "Kafka" {
  topic = "events"
  stop  = "latest"
  properties = {
    "kafka.bootstrap.servers" = var.broker
    "kafka.security.protocol" = "PLAINTEXT"
  }
  missing { topic = "nothing" }
}

sink "Kafka" {
  topic = "inbox"
  properties = {
    "kafka.bootstrap.servers" = var.broker
    "kafka.security.protocol" = "PLAINTEXT"
  }
}
