# What `towpath plugins verify` may read and write: see sdk/README.md.
config {
  root = dir
}

file {
  path = "in/a.bin"
  size = "3000001"
}
file {
  path    = "in/b/c d.txt"
  content = "hello"
}
file {
  path = "in/empty"
}
file {
  path = "sized/${size}/part.bin"
  size = size
}
file {
  path    = "many/${part}"
  content = "part ${part}"
}
file {
  path = "large/large.bin"
  size = "64MiB"
}

source "PyFile" {
  path = "in"
  sized   { path = "sized/${size}" }
  many    { path = "many" }
  large   { path = "large" }
  missing { path = "nowhere" }
}

sink "PyFile" {
  path = "out/${flow}"
  read_back "PyFile" { path = "out/${flow}" }
  missing { path = "in/a.bin/x" }
}
