// Package handlers is what happens when something arrives or is due, one file
// per verb.
//
// A handler reads from the store what to do and whether it may, acts, and
// records what came of it; the next step is a row with a due time, never a call
// to another handler. It gets ids from hints and signed statements from agents,
// and believes neither before the store has confirmed them: a hint may be lost,
// late, doubled or forged without harm.
//
// Who runs what (the roles are sets of handlers, put together in cmd):
//
//	worker     Issue (foreign CAs), Revoke, Abandon, RenewalInfo, Records, Reports
//	signer     Issue and Revoke (own CAs), Mailboxes, Enrolments, Lists, Trust, System
//	scheduler  Dispatcher, Renew, Replace, Rollouts
//
// Only the signer opens private keys of the platform. It signs what it reads in
// PostgreSQL for an order that is ready, never bytes, hashes or requests that
// come off the bus.
package handlers
