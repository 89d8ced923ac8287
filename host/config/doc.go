// Package config reads the operator's configuration: HCL, in one file or in a directory of files, into plain structs.
//
// It works in two stages. Load needs the files only. Check needs the descriptions of the plugins as well: it decodes each plugin's
// config block by the plugin's schema and holds every data address and type against what the plugins offer. Both report as much
// as they can find at once, each finding with file, line and column.
//
// Expressions may call
//
//	env("NAME")             an environment variable; an error if it is unset or empty
//	env("NAME", "default")  the same with a default
//	file("path")            the text of a file, without one newline at its end
//	secret("path")          the same for a file that only its owner may read; the value is never shown
//	path("path")            the path made absolute, for plugins: they do not know where the configuration stands
//
// Relative paths, here and in attributes, are relative to the file in which they stand. Attributes that are secrets have to come from
// secret(), and become a Secret. Otherwise a secret is accepted where it is bound for a plugin: in a plugin's config block and in the
// source or sink of a dataset.
//
// The package knows nothing of what its values are used for. Only the main program imports it.
package config
