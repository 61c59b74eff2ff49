//go:build tools

// Package tools pins versitygw, a server of S3 over a folder.
package tools

import _ "github.com/versity/versitygw/cmd/versitygw"
