// Package sdktest proves sources and sinks: TestSource and TestSink are the suites that each of them has to pass, in process or over
// the wire, and Memory is a source and a sink that passes both and stands in for real ones in other packages' tests.
//
// The suites see a plugin as a host does, as an sdk.DataSource or an sdk.DataSink. They know neither how it was made nor what is
// behind it.
package sdktest
