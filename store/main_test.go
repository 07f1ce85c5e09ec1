package store_test

import (
	"testing"

	"github.com/certctl/certctl/store"
	"github.com/certctl/certctl/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m, store.Migrate) }
