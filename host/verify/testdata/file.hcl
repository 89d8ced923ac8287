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

source "File" {
  path = "in"
  sized   { path = "sized/${size}" }
  many    { path = "many" }
  large   { path = "large" }
  missing { path = "nowhere" }
}

sink "File" {
  path = "out/${flow}"
  read_back "File" { path = "out/${flow}" }
}
