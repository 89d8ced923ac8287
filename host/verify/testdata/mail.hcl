config {
  server = "127.0.0.1"
  port   = var.port
  tls    = "off"
  sender = "data@provider.example"
}

sink "Mail" {
  recipient = "them@consumer.example"
  subject   = "flow ${flow}"

  missing { recipient = "nobody@consumer.example" }
}
