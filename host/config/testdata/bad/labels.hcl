dataplane "d" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
token "x" {}
dataset {
}
dataset "a" "b" {
  sink "Discard" {}
}
dataset "" {
  sink "Discard" {}
}
dataset "no address" {
}
dataset "no type" {
  sink {}
}
dataset " x\u0007" {
  sink "Discard" {}
}
plugin "File" {}
plugin "../x" {}
