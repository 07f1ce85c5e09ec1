// Package chart holds the tests of the Helm chart: it is rendered with every values
// file that a document names, its settings are held against what the programs read,
// and what it makes is given to a real API server of Kubernetes, with the rights
// that it asks for and no others. They need helm, kube-apiserver and etcd, and are
// built with the tag chart, by ./task test:chart.
package chart
