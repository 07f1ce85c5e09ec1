// Package rest is the REST API of api/openapi.yaml: it decodes, authenticates,
// asks the store and encodes. The description is the source: types, routes and
// request validation are generated or driven by it.
//
// A request passes, in this order: panic guard and request id, size limit,
// authentication, the generated parameters, validation against the description,
// the handler. Authorisation happens in the store, where names have become
// objects: one function for every object that a request touches.
//
// The package signs nothing, opens no secret and publishes nothing. What needs
// a key (enrolment, credentials, reader credentials) is passed on to the signer.
package rest
