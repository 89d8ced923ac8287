config {
  allow = ["loopback"]
}

source "HttpData" {
  baseUrl = "${var.url}/bytes/3000001"
  name    = "one.bin"

  sized { baseUrl = "${var.url}/bytes/${size}" }
  large { baseUrl = "${var.url}/bytes/${64 * 1024 * 1024}" }
  missing { baseUrl = "${var.url}/nothing" }
}

sink "HttpData" {
  baseUrl = "${var.url}/inbox/${flow}"
}
