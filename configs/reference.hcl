# Everything that can be configured, with its default or an example.
#
# A configuration is one file, or a directory whose *.hcl files are read in the order of their names. Relative paths are relative to
# the file in which they stand. Values can be computed:
#
#   env("NAME")             an environment variable; an error if it is unset or empty
#   env("NAME", "default")  the same with a default
#   file("path")            the text of a file, without a newline at its end
#   secret("path")          the same for a file that only its owner may read (chmod 600). The value is never shown. For a plugin's
#                           config, and for a dataset's source and sink.
#   path("path")            the path made absolute: plugins do not know where this file stands
#
# Durations are written "500ms", "30s", "1h30m"; numbers of bytes 4096, "64KiB", "20GiB". Nothing is ignored: a name that is not
# known is an error. Lines that begin with "#:" work once their files exist.

# Required. The label is the id by which control planes know this data plane.
dataplane "reference" {
  data_dir = "../.towpath/reference" # state, keys, the database. Default: "state", beside this file
}

# The API that control planes call (Data Plane Signaling). It has no authorization yet: keep it on an address that only they reach.
listen "signaling" {
  address   = "127.0.0.1:18080" # the default. ":18080" is every interface, "127.0.0.1:0" any free port
  base_path = "/api/v1"         # comes before /dataflows. Default: ""
}

# What counterparties reach, with a token: they fetch data, and they deliver data.
listen "public" {
  address = "127.0.0.1:18081"               # the default
  url     = "https://dataplane.example.com" # what they are told. Default: the address, with https:// if there is a tls block
  # Without this block the listener speaks plain HTTP; then something in front of it should end TLS. Every listen block can have one.
  #: tls {
  #:   certificate = "tls/public.pem" # with its chain
  #:   key         = "tls/public.key"
  #: }
}

# For operators: flows, health, metrics. No authorization either.
listen "admin" {
  address = "127.0.0.1:18082" # the default
}

# Required, and only one in this version. The label is its id.
control_plane "connector" {
  endpoint      = "https://connector.example.com/signaling" # base URL of its callbacks
  protocol      = "dps"                                     # the only one in this version
  give_up_after = "24h"                                     # how long a callback is tried. This is the default
}

# Where flows are kept. "sqlite" is the only kind in this version, and the default.
store "sqlite" {
  path = "../.towpath/reference/towpath.db" # default: towpath.db in data_dir
}

# Required. Plugins are programs in one directory. Those without a plugin block are used if they may run and need no configuration.
plugins {
  directory = "../.towpath/plugins"
  # Which of them may be run:
  #   "pinned"     those whose SHA-256 equals the one in their plugin block. The default
  #   "directory"  all, as long as the directory and the file belong to the host's user or root and nobody else can write to them
  #   "off"        all
  trust = "directory"
}

# A plugin. `towpath plugins describe file` shows what its config can have.
plugin "file" {
  binary           = "towpath-plugin-file" # file in the directory. Default: the label, with or without "towpath-plugin-"
  environment      = { TZ = "UTC" }        # variables to set in its environment. Secrets belong in config
  pass_environment = ["HTTPS_PROXY"]       # variables to hand on from the host; most are not
  start_timeout    = "15s"                 # from launch to its first answer. These three are the defaults
  drain_timeout    = "10s"                 # to bring its flows to rest before a stop
  stop_timeout     = "5s"                  # from the request to end until it is killed

  # To run exactly one build of it: sha256sum towpath-plugin-file | cut -c1-64 > file.sha256
  #: sha256 = file("file.sha256")

  config {
    root      = path("../.towpath/reference/files") # it has to exist; no address reaches out of it
    read_only = false                               # true: there is nothing to write to
  }
}

plugin "http" {
  config {
    # Hosts, host:port, networks or "loopback" that may be reached although they are private to this machine or its network.
    allow   = ["loopback", "storage.example.internal:8443", "10.20.0.0/16"]
    timeout = "30s"
    #: ca_file = path("tls/internal-ca.pem")
  }
}

plugin "synthetic" {}

# At least one. The label is the profile's value in messages, as it is: an absolute URL in dataspaces that follow the profile
# registry, a bare name elsewhere.
profile "https://w3id.org/dspace-sig/profile/http-pull" {
  direction     = "pull"                                            # default: by the end of the name, -push or -pull
  endpoint_type = "https://w3id.org/dspace-sig/profile/http-pull" # of addresses that we issue. Default: the label

  # Which type of plugin handles a counterparty's address, by its endpointType. One that is not listed is its own type.
  types = {
    "https://w3id.org/dspace-sig/profile/http-pull" = "HttpData"
  }

  allow_http = false # true: accept and issue addresses that are not HTTPS. This is the default
}

profile "https://w3id.org/dspace-sig/profile/http-push" {
  types = {
    "https://w3id.org/dspace-sig/profile/http-push" = "HttpData"
  }
}

# EDC's way to name one. The word before the last can be the direction: HttpData-PUSH-HttpData.
profile "HttpData-PULL" {
  type = "HttpData" # the plugin's type whatever the address says, in place of types
}

# A dataset that we provide from its source, or consume into its sink, or both. The label is the datasetId in messages. The labels
# in it are types of address that a plugin offers; the attributes are the properties of that type.
dataset "measurements" {
  source "HttpData" {
    baseUrl = "https://storage.example.internal:8443/measurements"
    method  = "GET"
    # Properties whose names are not HCL names:
    properties = {
      "header:Accept" = "text/csv"
    }
    authKey = "X-Api-Key"
    #: authCode = secret("api-key.secret")
  }

  sink "File" {
    path      = "measurements"
    collision = "rename" # or "replace", or "fail", which is the default
  }
}

# An address as Data Plane Signaling has it: a type, an endpoint, and properties.
dataset "mirror" {
  source "HttpData" {
    endpoint = "https://mirror.example.com/export"
  }
}

dataset "noise" {
  source "Generate" {
    size  = "1GiB" # or a duration; with neither it goes on until the flow ends
    rate  = "10MiB" # per second
    seed  = 42
    mode  = "bytes" # or "records", each of record_size
    parts = 4
  }

  sink "Discard" {
    digest = true
    rate   = "10MiB"
  }
}

# The limits of each access token that a counterparty is given.
token {
  lifetime       = "1h"    # the default
  max_bytes      = "20GiB" # that it may read or deliver. Default: no limit
  max_concurrent = 16      # requests at once. This is the default
  max_duration   = "6h"    # of one request. Default: no limit
}

# How data is moved.
transfer {
  digests             = ["crc32c", "sha256"] # for every part. crc32c is computed in any case
  checkpoint_interval = "1s"                 # how much work a crash may cost. This is the default

  # After a failure that can pass. These are the defaults.
  retry {
    first         = "500ms" # before the first new attempt; then longer each time
    max           = "30s"   # at most
    give_up_after = "10m"   # without progress, before the control plane is told
  }
}

telemetry {
  log_level  = "info" # or "debug", "warn", "error". This is the default
  log_format = "text" # or "json". This is the default
}
