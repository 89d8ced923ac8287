dataplane "d" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
plugins {
  directory = "plugins"
  trust     = "off"
  publisher "acme" {
    key = "RWQ"
  }
  publisher "acme" {
    key = "RWQ5kkpFHbnjgrPnd/dYsZ+gRMpPOS0myd1FDw75+tZr/0WjnRtnPiRc"
  }
  publisher "zenith" {}
}
profile "http-pull" {}
plugin "a" {
  publisher = "acmee"
  limits {
    memory     = "63MiB"
    cpu        = 0
    open_files = 0
    processes  = "many"
    disk       = "1GiB"
  }
  limits {}
  permissions {
    environment = ["A=B"]
    read        = "/srv"
    write       = [""]
    connect     = ["10.0.0.0/8:443", "example.com"]
  }
}
plugin "b" {
  permissions {
    connect = [443]
  }
}
