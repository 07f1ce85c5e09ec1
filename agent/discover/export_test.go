package discover

// ApacheReload is apacheReload, whatever runs where the tests do.
var ApacheReload = apacheReload
