// Package bus is the messaging contract: every subject, stream and envelope.
package bus
