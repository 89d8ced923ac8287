// Package edc speaks the data plane signaling of Eclipse EDC's connectors, version 1.
package edc
