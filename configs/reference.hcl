# Everything that can be configured, with its default or an example.
#
# A configuration is one file, or a directory whose *.hcl files are read in the order of their names. Relative paths are relative to
# the file in which they stand. Values can be computed:
#
#   env("NAME")             an environment variable; an error if it is unset or empty
#   env("NAME", "default")  the same with a default
#   file("path")            the text of a file, without a newline at its end
#   secret("path")          the same for a file that only its owner may read (chmod 600). The value is never shown. Attributes that are
#                           secrets have to come from it; a plugin's config, and a dataset's source and sink, may.
#   path("path")            the path made absolute: plugins do not know where this file stands
#
# Durations are written "500ms", "30s", "1h30m"; numbers of bytes 4096, "64KiB", "20GiB". Nothing is ignored: a name that is not
# known is an error. Lines that begin with "#:" work once their files and plugins exist.

# Required. The label is the id by which control planes know this data plane.
dataplane "reference" {
  data_dir = "../.towpath/reference" # state, keys, the database. Default: "state", beside this file
}

# The API that control planes call (Data Plane Signaling). Who may call is said with the control planes.
listen "signaling" {
  address   = "127.0.0.1:18080"               # the default. ":18080" is every interface, "127.0.0.1:0" any free port
  url       = "https://signaling.example.com" # scheme and host that control planes are told. Default: the address, as for public
  base_path = "/api/v1"                       # comes before /dataflows. Default: ""
}

# What counterparties reach, with a token: they fetch data, and they deliver data.
listen "public" {
  address = "127.0.0.1:18081"               # the default
  url     = "https://dataplane.example.com" # what they are told. Default: the address, with https:// if there is a tls block
  # Header fields that requests for a proxied flow (an HttpData source with proxyMethod and its like) hand on to the server besides the usual
  # ones: Accept*, Cache-Control, Content-*, Idempotency-Key, If-*, Last-Event-ID, Prefer, Range, User-Agent, traceparent, tracestate, and
  # those of digests. A * at the end stands for any. "Set-Cookie" lets that of answers come back. Credentials never go on. Default: none
  #: proxy_headers = ["X-Tenant", "X-App-*"]
  # Without this block the listener speaks plain HTTP; then something in front of it should end TLS. Every listen block can have one.
  #: tls {
  #:   certificate = "tls/public.pem" # with its chain
  #:   key         = "tls/public.key"
  #:   client_ca   = "tls/clients.pem" # clients need a certificate signed by one of these. Default: they need none
  #: }
}

# For operators: flows, health, metrics.
listen "admin" {
  address = "127.0.0.1:18082" # the default
  # The bearer token that every request but /healthz and /readyz needs. Default: none is needed.
  #: token = secret("admin.secret")
}

# The rules for requests to whatever a peer names: control planes that registered, keys, DIDs, endpoints of Token Renewal. The URLs in
# this file need no rule, but that those of keys and tokens begin with https:// unless they lead to this machine.
outbound {
  # Hosts, host:port, IP addresses, networks or "loopback" that may be reached although they are private. Default: none
  allow      = ["loopback", "10.0.0.0/8", "idp.example.internal:8443"]
  allow_http = false # true: plain HTTP to other machines. This is the default
  timeout    = "10s" # of each request. This is the default
}

# A participant for which this data plane acts. Flows, datasets and control planes of different ones know nothing of each other. The
# label is what tokens call it in participant_context. "default" exists without a block.
participant_context "alice" {
  did    = "did:web:alice.example"       # who it is towards counterparties: for tokens that can be renewed. Default: none
  key    = "../.towpath/alice.pem"       # signs for the DID (PKCS #8). Made if missing. Default: keys/alice.pem in data_dir
  key_id = "did:web:alice.example#key-1" # as in its DID document. Default: #key-1; for did:key and did:jwk what their methods say
  # What all its flows together may move, as in dataset below; weight is in comparison to other participant contexts. Default: no limits
  limits {
    bytes  = "50MiB"
    weight = 2
  }
  # Turns on PUT and DELETE /controlplanes, by which control planes register: it comes as bearer token or X-Api-Key. Default: off
  #: registration_key = secret("alice.secret")
}

# At least one, unless control planes can register. The label is its id. If there is another one, or others can register, each needs an
# authorization block that says how it proves who it is; and no two may prove it alike.
control_plane "connector" {
  participant_context = "default"                                 # the default
  endpoint            = "https://connector.example.com/signaling" # base URL of its callbacks
  protocol            = "dps"                                     # or "edc", see below. This is the default
  give_up_after       = "24h"                                     # how long a callback is tried. This is the default
  timeout             = "10s"                                     # of each request to it. This is the default
  token_lifetime      = "1h"                                      # of the tokens issued to its flows. Default: that of the token block

  # For calling it.
  #: tls {
  #:   ca          = "tls/connector-ca.pem" # trusted in place of the system's
  #:   certificate = "tls/client.pem"       # our own. Default: none
  #:   key         = "tls/client.key"
  #: }

  # Tokens of an OAuth2 server, by client credentials.
  authorization "oauth2_client_credentials" {
    # How it calls us: its tokens need to have
    issuer     = "https://idp.example.com"      # as iss. Default: any
    subject    = "connector"                    # as sub. Default: the control plane's label
    audiences  = ["reference"]                  # one of these as aud. Default: the data plane's label
    jwks_uri   = "https://idp.example.com/jwks" # a signature by one of these keys; or jwks, the keys themselves
    single_use = false                          # true: a jti that was not used before. Many clients use a token again. This is the default

    insecure_skip_signature = false # true, in place of jwks_uri: whoever reaches us can pretend to be it. This is the default

    # How we call it. Without token_endpoint: without a token.
    #: token_endpoint = "https://idp.example.com/token"
    #: client_id      = "reference"
    #: client_secret  = secret("connector.secret")
    #: scope          = "signaling"                     # to ask for. These three: default none
    #: audience       = "connector"
    #: resource       = "https://connector.example.com"
  }

  # Makes this data plane known to it, at every start, unless `towpath controlplanes deregister` has taken that back. Without this block
  # an operator does.
  registration {
    endpoint           = "https://connector.example.com/management/v4"    # PUT <endpoint>/dataplanes. Default: the control plane's endpoint
    dataplane_endpoint = "https://signaling.example.com/api/v1/dataflows" # where it calls us. Default: this, from listen "signaling"
    labels             = ["eu"]                                           # default: none
    headers            = { "X-Tenant" = "a" }                             # of the request. Credentials have to come from secret()
    deregister_on_stop = false                                            # true: DELETE at an orderly stop. This is the default

    # What it is told of how it calls us: where it gets its tokens, and how it verifies ours. Default: nothing
    #: authorization "oauth2_client_credentials" {
    #:   token_endpoint = "https://idp.example.com/token"
    #:   client_id      = "connector"
    #:   client_secret  = secret("connector.secret")
    #:   jwks_uri       = "https://idp.example.com/jwks" # or jwks. Default: neither
    #: }
  }
}

# Tokens of an OAuth2 server, in exchange for the credential of a workload (RFC 8693).
control_plane "broker" {
  participant_context = "alice"
  endpoint            = "https://broker.example.com/signaling"

  authorization "oauth2_token_exchange" {
    # How it calls us: as above, but without jwks. Its subject is client_id, or sub where there is none; and a token that has
    # participant_context needs to have that of this block.
    issuer         = "https://sts.example.com"
    jwks_uri       = "https://sts.example.com/jwks"
    required_scope = "signaling" # among those of a token. Default: none

    # How we call it. Without token_exchange_endpoint: without a token.
    token_exchange_endpoint = "https://sts.example.com/token"
    subject_token           = "/var/run/secrets/kubernetes.io/serviceaccount/token" # read again each time
    audience                = "broker"
    resource                = "https://broker.example.com"
    scope                   = "signaling" # default: none
  }

  registration {
    authorization "oauth2_token_exchange" {
      token_exchange_endpoint = "https://sts.example.com/token"
      issuer                  = "https://sts.example.com"
      jwks_uri                = "https://sts.example.com/jwks"
      resource                = "https://signaling.example.com" # what it is to ask for. These three: default none
      audience                = "reference"
      scope                   = "signaling"
    }
  }
}

# A secret for each way. At least one of them; without inbound it does not prove who it is.
#: control_plane "gateway" {
#:   endpoint = "https://gateway.example.com"
#:   authorization "static" {
#:     header   = "X-Api-Key" # has the value alone. Default: "Authorization", which has "Bearer " before it
#:     inbound  = secret("gateway.secret")
#:     outbound = secret("connector.secret")
#:   }
#: }

# A connector of Eclipse EDC 0.6 to 0.18, or Tractus-X, that speaks EDC's own signaling. Its orders come in at a path of its own, with the
# signaling API: /api/v1/edc/edc/v1/dataflows for this one, which is base_path, "/edc/", the label, "/v1/dataflows".
control_plane "edc" {
  protocol           = "edc"
  endpoint           = "http://edc.example.com:9191/api/control"     # its control context
  callback_addresses = ["http://edc-0.example.com:9191/api/control"] # other origins that callbackAddress may have. Default: none; all else goes to endpoint
  token_lifetime     = "24h"                                         # default: until they are revoked, unless they can be renewed
  renewal            = "tractusx"                                    # tokens can be renewed as Tractus-X's connectors do it. Default: not

  # "static" is the only kind, with the header that it is set to. Default: none, since EDC sends nothing by itself
  #: authorization "static" {
  #:   header   = "X-Api-Key"
  #:   inbound  = secret("gateway.secret")
  #:   outbound = secret("connector.secret") # web.http.control.auth.key of the connector
  #: }

  # POST <endpoint>/v1/dataplanes, with all profiles named as EDC's transfer types are, DEST-PUSH or DEST-PULL
  registration {
    deregister_on_stop          = false
    destination_provision_types = ["HttpData"] # destinations to have prepared here, of EDC 0.14 or later. Default: none
  }
}

# Keys that are not fetched.
#: control_plane "offline" {
#:   endpoint = "https://offline.example.com"
#:   authorization "oauth2_client_credentials" {
#:     jwks = file("offline.jwks")
#:   }
#: }

# How signals are answered.
signaling {
  answer_within = "2s" # prepare and start in mode "auto" are answered with 202 after this, and by a callback. This is the default
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
  #   "signed"     those that one of the publishers below has signed: minisign -S -H -m towpath-plugin-x leaves the signature beside the
  #                file, as towpath-plugin-x.minisig
  #   "ask"        those that `towpath plugins trust NAME` has decided to trust, for that very content. The host waits for decisions
  #   "directory"  all, as long as the directory and the file belong to the host's user or root and nobody else can write to them
  #   "off"        all
  # A pin, and a publisher in a plugin block, have to fit under each of them.
  trust = "directory"
  # Take plugins into use, and out of it, as their files come and go. false: only with SIGHUP or `towpath plugins rescan`. Default: true
  watch = true

  # Whose signatures count: the second line of a minisign.pub.
  publisher "example" {
    key = "RWQ5kkpFHbnjgrPnd/dYsZ+gRMpPOS0myd1FDw75+tZr/0WjnRtnPiRc"
  }
}

# A plugin. `towpath plugins describe file` shows what its config can have.
plugin "file" {
  binary           = "towpath-plugin-file" # file in the directory. Default: the label, with or without "towpath-plugin-"
  environment      = { TZ = "UTC" }        # variables to set in its environment. Secrets belong in config
  pass_environment = ["HTTPS_PROXY"]       # variables to hand on from the host; most are not
  start_timeout    = "15s"                 # from launch to its first answer. These three are the defaults
  drain_timeout    = "10s"                 # to bring its flows to rest before a stop. Where it is given it holds too when the file was removed or replaced
  stop_timeout     = "5s"                  # from the request to end until it is killed
  handover_timeout = "30s"                 # a file that has replaced another and moves nothing for those who ask for so long is rolled back
  lane             = "auto"                # how payload travels: by a descriptor for each flow where both sides can, or always by "grpc"
  lane_buffer      = "512KiB"              # asked of the kernel for each flow; 2MiB is faster, for a few large flows
  start            = "on-demand"           # by the first call that needs it, once it was described; or "always", with the host
  isolation        = "shared"              # one process for all; or "flow": one for each flow; or "participant": one for each participant context
  max_processes    = 32                    # of them besides the one for calls of no flow; flows that find none free wait
  quarantine_after = 5                     # crashes in ten minutes, without a minute of steady run, after which it is launched no more. 0: none
  mtls             = "auto"                # mutual TLS for what is not payload: "on", "off", or on unless payload goes the same way

  # To run exactly one build of it: sha256sum towpath-plugin-file | cut -c1-64 > file.sha256
  #: sha256 = file("file.sha256")

  # To run no build of it that someone else has made:
  #: publisher = "example"

  # What it may use. `towpath plugins describe file` says what of this, and of the permissions, is in force on this machine.
  limits {
    memory     = "1GiB" # at least 64MiB
    cpu        = 2      # processors; needs cgroups v2
    open_files = 4096
    processes  = 256    # threads count; needs cgroups v2
  }

  # What it may do. What is not mentioned is not confined, unless the plugin itself says what it needs.
  permissions {
    environment = ["TZ"]                           # variables it gets from the host's environment if it asks for them
    read        = ["../.towpath/reference/files"]  # folders and files, relative to this file
    write       = ["../.towpath/reference/files"]  # they may be read too
    connect     = []                               # "s3.example.com:443", "10.0.0.0/8:443", "[2001:db8::/32]:*", "*:5432"
  }

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

# A plugin that runs by itself, on this machine or another, and is dialled: "towpath-plugin-remote -listen unix:///run/towpath/remote.sock", or
# "-listen tcp://0.0.0.0:7443 -certificate … -key … -client-ca …". The host is up without it, and dials it again whenever it is lost. Such a
# block has start_timeout, drain_timeout, server_side_copy and config besides, and nothing that is about a file or a process: to trust the
# plugin is to write this block, and what it may do is for whoever runs it to say.
#: plugin "remote" {
#:   # Who listens at a unix socket has to be the host's user or root, and nobody else may be able to write to the socket.
#:   address = "tcp://plugins.example.internal:7443"
#:   # Over TCP, always: each side shows a certificate that the other's authorities have signed. The files are read with each connection.
#:   tls {
#:     certificate = "tls/host.pem"
#:     key         = "tls/host.key"
#:     ca          = "tls/plugins-ca.pem"
#:     server_name = "remote.example.internal" # that its certificate is for. Default: the host in the address
#:   }
#:   config {
#:     root = "/srv/data" # a path where it runs
#:   }
#: }

plugin "kafka" {
  config {
    allow           = ["loopback", "10.20.0.0/16"] # as for http; it holds for the brokers that a cluster advertises too
    allow_plaintext = false                        # true: connect without TLS to other hosts than loopback. The default
    #: ca_file = path("tls/internal-ca.pem")

    # Topics that are made for counterparties to read, by profiles with provision = "Kafka": where, and what the address that is
    # handed out has besides, or in place of, the topic, the brokers and how they are secured.
    provision = {
      "kafka.bootstrap.servers" = "127.0.0.1:9092"
      "kafka.security.protocol" = "PLAINTEXT"
      "transactional"           = "true" # every message exactly once
    }
    hand_out           = { "kafka.bootstrap.servers" = "kafka.provider.example:9093", "kafka.security.protocol" = "SSL" }
    partitions         = 1
    replication_factor = -1     # -1: the brokers' own
    retention          = "168h" # 0s: the brokers' own
    remove_topics      = false  # true: with what is in them, when their flows end
  }
}

plugin "s3" {
  # true: what goes from one address to another of the same store, with the same credentials, is copied by the store, and its bytes pass
  # neither the plugin nor the host: no rate in limits holds it up. For plugins whose stores can do that. Default: false
  server_side_copy = true

  config {
    allow               = ["10.30.0.0/16"]     # as above: for stores of one's own
    default_credentials = ["towpath-*",        # buckets at Amazon, and at a store, for which addresses without credentials,
      "https://store.example.internal/exports" # a peer's too, may use those of the operator
    ]
    access_key_id = "towpath" # of the operator. Default: what shared files, roles and web identities give
    #: secret_access_key = secret("s3.secret")
    part_size      = "16MiB"
    memory         = "256MiB" # of all flows together, to read ahead and to send parts side by side
    copy_part_size = "256MiB" # what a store copies by one request; larger objects in ranges, side by side. This is the default
  }
}

plugin "synthetic" {}

# At least one. The label is the profile's value in messages, as it is: an absolute URL in dataspaces that follow the profile
# registry, a bare name elsewhere.
profile "https://w3id.org/dspace-sig/profile/http-pull" {
  direction     = "pull"                                          # default: by the end of the name, -push or -pull
  endpoint_type = "https://w3id.org/dspace-sig/profile/http-pull" # of addresses that we issue. Default: the label

  # Which type of plugin handles a counterparty's address, by its endpointType. One that is not listed is its own type.
  types = {
    "https://w3id.org/dspace-sig/profile/http-pull" = "HttpData"
  }

  allow_http = false # true: accept and issue addresses that are not HTTPS. This is the default

  # Whether messages have to be as the profile's specification demands. Default: true for names that begin as this one
  strict = true

  # When prepare and start are answered:
  #   "auto"   when the work is done, or with 202 if that takes longer than signaling.answer_within. The default
  #   "sync"   when the work is done
  #   "async"  at once, with 202
  mode = "auto"

  # Tokens that can be renewed (Token Renewal), which takes DIDs on both sides:
  #   "off"      not issued. The default of what is not strict
  #   "offer"    issued where the counterparty has a DID. The default of what is strict
  #   "require"  and a counterparty's address without is refused. Every participant with control planes needs its did
  renewal = "offer"

  weight = 1 # of its flows that have a dataset without one, where flows share a limit: 1 to 1000. This is the default

  # Take a dataset that is neither here nor put by an operator from the message: metadata = {"towpathDataset": {"source": {...}, "sink":
  # {...}}}, with data addresses as elsewhere in messages. Whoever gives orders can then name whatever the plugins can reach
  dataset_in_message = false
}

# The HTTP transfer profile is handled by "HttpData" unless types or type say otherwise.
profile "https://w3id.org/dspace-sig/profile/http-push" {}

# EDC's way to name one. The word before the last can be the direction: HttpData-PUSH-HttpData.
profile "HttpData-PULL" {
  type = "HttpData" # the plugin's type whatever the address says, in place of types
}

# For pull: addresses that a sink plugin makes and a transfer feeds, in place of the public API: topics, queues, buckets.
#: profile "Kafka-PULL" {
#:   provision = "Kafka" # the sink's type
#: }

# With a response channel: the consumer is given a second address, with a token of its own, for what it has to say about the data. It is
# open while a flow is STARTED, and what comes on it is written to the response sink of the dataset. EDC's names of the form
# HttpData-PUSH-HttpData have one by themselves.
profile "HttpData-PUSH" {
  type = "HttpData"
  response {
    type          = "HttpData" # begins with http: messages come to the public API. Any other is a plugin's, as with provision
    endpoint_type = "HttpData" # of the channel, as the consumer is told. Default: the type
    linger        = "30s"      # how long a push that has sent everything waits with its completion, and the channel stays open. Default: 0
  }
}

# A channel that a plugin carries: its sink makes a topic, a queue or the like for each flow, and its source reads what is sent there.
#: profile "telemetry-push" {
#:   type = "HttpData"
#:   response {
#:     provision = "Kafka"
#:   }
#: }

# A dataset that we provide from its source, or consume into its sink, or both. The label is the datasetId in messages. The labels
# in it are types of address that a plugin offers; the attributes are the properties of that type.
dataset "measurements" {
  participant_context = "default" # the default. Different ones may have datasets of the same label
  mode                = "auto"    # as in a profile, and goes before it. Default: the profile's

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

  # When we provide it: what comes back on the response channel of a profile that has one.
  response "File" {
    path      = "answers"
    collision = "rename"
  }

  # What its flows together may move, all together. Default: what limits below says
  limits {
    bytes     = "20MiB" # per second
    records   = 10000   # per second
    transfers = 4       # at a time
    weight    = 3       # of each of its flows: 1 to 1000. Default: the profile's
  }
}

# Objects of a bucket at Amazon, or with endpointOverride anywhere else. Without accessKeyId and secretAccessKey the operator's
# credentials are used, where default_credentials allows it.
dataset "exports" {
  source "AmazonS3" {
    region       = "eu-central-1"
    bucketName   = "towpath-exports"
    objectPrefix = "2026/" # or objectName, for one object
  }

  sink "AmazonS3" {
    endpointOverride = "https://store.example.internal"
    bucketName       = "exports"
    folderName       = "inbox"
    collision        = "fail" # or "replace", which is the default
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
    size  = "1GiB"  # or a duration; with neither it goes on until the flow ends
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

  refresh_lifetime = "720h" # how long it can be renewed, from each renewal on. This is the default
  renewal_grace    = "10m"  # how long a renewal whose answer was lost can be repeated. This is the default
}

# How data is moved.
transfer {
  digests             = ["crc32c", "sha256"] # for every part that moves. crc32c is computed in any case
  checkpoint_interval = "1s"                 # how much work a crash may cost. This is the default
  upload_lifetime     = "168h"               # how long an upload to us that was cut can go on where it was. This is the default

  # After a failure that can pass. These are the defaults.
  retry {
    first         = "500ms" # before the first new attempt; then longer each time
    max           = "30s"   # at most
    give_up_after = "10m"   # without progress, before the control plane is told
  }

  # Tells transfers that wait from those that are dead. These are the defaults.
  watchdog {
    stalled_after = "1m" # neither has anything moved nor has the plugin answered that is waited for
    restart_after = "5m" # then a stalled transfer begins again from its last stored place. Or "never"
    trust_health  = true # false: a plugin that answers is no proof that its flows live, but for sources that have no end
  }
}

# How fast flows may move, both ways, and how many transfers may run; the others wait in a queue. A flow is under all of these at once,
# and those that wait for one share it by weight: participant contexts first, then their counterparties, then the flows of each.
# Default: no limits. `towpath limits` shows and changes them while the host runs; what is set there goes before this.
limits {
  host {
    bytes     = "100MiB" # per second
    records   = 50000    # per second
    transfers = 64       # at a time
  }

  # Each counterparty, within a participant context.
  counterparty {
    bytes     = "40MiB"
    records   = 20000
    transfers = 16
    weight    = 1
  }

  # Each dataset that has no limits of its own.
  dataset {
    transfers = 32
  }

  # Each flow.
  flow {
    bytes   = "25MiB"
    records = 10000
  }
}

# What counterparties may do at the public API with a token that is good: asked about every request, inside its flow and before anything is
# read or written. The first rule whose condition is true decides; if none is, the decision point does, if there is one; then the default.
# Default: everything.
access {
  default = "allow" # or "deny"

  # Conditions know: participant_context, participant, counterparty, agreement, dataset, flow (its id), role, direction, profile,
  # control_plane, labels (a list), claims and metadata (what the control plane sent, try(claims.x, "") where it may be missing); and of
  # the request: method, path (escaped), query (lists of values by name), headers (by names in lower case, without credentials), operation
  # (pull, pull-part, proxy, ingest, ingest-part, upload, manifest, respond, respond-part), part (as the path names it), remote_address and
  # time (rfc3339, unix, weekday, hour, minute; UTC). They may call can, contains, endswith, in_network, join, keys, length, lookup, lower, matches, split,
  # startswith, try, unix and upper. A condition that fails with a request denies it, and the log says why.
  rule "maintenance" {
    effect = "deny"
    when   = time.weekday == "sunday" && time.hour < 4
  }
  rule "own network" {
    effect = "allow"
    when   = in_network(remote_address, "10.0.0.0/8") && direction == "pull"
  }
  rule "members only" {
    effect = "deny"
    when   = dataset == "reports" && !contains(try(claims.groups, []), "members")
  }

  # Gets the same by POST, as a JSON object, and answers 200 with {"allow": true or false, "reason": "for the counterparty"}.
  decision_point {
    url        = "https://decisions.example.internal/v1/towpath" # yours, so it may be anywhere
    timeout    = "2s"                                            # then it has failed. This is the default
    on_failure = "deny"                                          # or "allow". This is the default
    headers = {                                                  # credentials have to come from secret()
      "X-Tenant" = "a"
      #: "X-Api-Key" = secret("connector.secret")
    }
  }
}

telemetry {
  log_level  = "info" # or "debug", "warn", "error". This is the default
  log_format = "text" # or "json". This is the default
}
