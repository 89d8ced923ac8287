package main

import (
	"slices"

	"github.com/towpath-dataplane/towpath/sdk"
)

// sourceSchema lists the properties of an address that is read.
func sourceSchema() sdk.Schema {
	return sdk.Schema{Open: true, Fields: slices.Concat(commonFields(), []sdk.Field{
		{Name: "objectName", Documentation: "Key of the one object to read, below `folderName` if that is given."},
		{Name: "objectPrefix", Documentation: "Read all objects whose keys begin so. A part's name is what follows the last `/` of the prefix."},
		{Name: "keyName", Documentation: "Other name of `objectName`. Next to another of these properties it means nothing: in EDC it can be " +
			"the alias of a secret."},
		{Name: "keyPrefix", Documentation: "Other name of `objectPrefix`."},
		{Name: "folderName", Documentation: "Without `objectName`: read all objects of this folder and those below it; `/` is the whole bucket."},
	})}
}

// sinkSchema lists the properties of an address that is written to.
func sinkSchema() sdk.Schema {
	return sdk.Schema{Open: true, Fields: slices.Concat(commonFields(), []sdk.Field{
		{Name: "folderName", Documentation: "Folder that objects are written to. Default: the top of the bucket."},
		{Name: "objectPrefix", Documentation: "What the keys of all objects begin with, behind the folder."},
		{Name: "keyPrefix", Documentation: "Other name of `objectPrefix`."},
		{Name: "objectName", Documentation: "Key, below the folder, of the object of a flow that has one part. Otherwise parts keep their names."},
		{Name: "keyName", Documentation: "Other name of `objectName`. Next to another of these properties it means nothing: in EDC it can be " +
			"the alias of a secret."},
		{Name: "collision", Default: collisionReplace, OneOf: []string{collisionReplace, collisionFail}, Documentation: "What happens to a part " +
			"whose key is taken: the object there is replaced, or the flow fails, which takes a store that knows conditional writes."},
		{Name: "batchSize", Kind: sdk.Size, Default: "8MiB", Documentation: "Records are gathered into objects of about this size."},
		{Name: "batchTime", Kind: sdk.Duration, Default: "1m", Documentation: "Records wait no longer than this for their object."},
	})}
}

func commonFields() []sdk.Field {
	return []sdk.Field{
		{Name: "region", Default: "us-east-1", Documentation: "Region of the bucket."},
		{Name: "bucketName", Required: true, Documentation: "Name of the bucket. It has to exist."},
		{Name: "endpointOverride", Kind: sdk.URL, Documentation: "URL of a store that speaks the protocol. Without it, and without an endpoint " +
			"of the address, the bucket is at Amazon."},
		{Name: "forcePathStyle", Kind: sdk.Bool, Documentation: "Put the bucket into the path of URLs rather than the host name. Default: where " +
			"an endpoint is given."},
		{Name: "accessKeyId", Sensitive: true, Documentation: "Credentials for the bucket. Without them, the operator's are used if they may be " +
			"for this bucket."},
		{Name: "secretAccessKey", Sensitive: true, Documentation: "Secret of `accessKeyId`."},
		{Name: "sessionToken", Sensitive: true, Documentation: "Session token, with temporary credentials."},
		{Name: "checksums", OneOf: checksumModes(), Documentation: "As in the plugin's configuration, for this address."},
	}
}
