package cold

import (
	"context"
	"net/url"
	"strings"

	"github.com/polder/polder/bench/launch"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/envoy"
)

// totals sums what happened to the services.
func (s *site) totals(ctx context.Context, names ...string) (gateway.Totals, error) {
	status, err := s.client.Status(ctx)
	if err != nil {
		return gateway.Totals{}, err
	}
	var sum gateway.Totals
	for _, service := range status.Services {
		for _, n := range names {
			if string(service.Service) == n {
				sum.Starts += service.Totals.Starts
				sum.Cold += service.Totals.Cold
				sum.Crashes += service.Totals.Crashes
			}
		}
	}
	return sum, nil
}

// keyless returns when Envoy does not hold the key of the host.
func (s *site) keyless(ctx context.Context, host string) error {
	admin := envoy.NewAdmin(s.layout.Admin())
	return launch.Await(ctx, "Envoy has forgotten the key of "+host, func() (bool, error) {
		text, err := admin.ConfigDump(ctx, url.Values{"resource": {"dynamic_active_secrets"}})
		return !strings.Contains(string(text), `"name": "`+host+`"`), err
	})
}
