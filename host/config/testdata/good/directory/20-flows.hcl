profile "http-pull" {}

plugin "synthetic" {}

dataset "b" {
  source "Generate" {}
}
