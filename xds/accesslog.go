package xds

import (
	accesslog "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	filelog "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// accessLog writes a line of JSON per request to a file; "" writes none. It says
// which service and which address, when, how long and how much, and nothing of
// who called or for what.
func accessLog(file string) []*accesslog.AccessLog {
	if file == "" {
		return nil
	}
	line, err := structpb.NewStruct(map[string]any{
		"time": "%START_TIME%", "began": "%START_TIME(%s.%6f)%", "first-us": "%COMMON_DURATION(DS_RX_BEG:US_RX_BEG:us)%",
		"cluster": "%UPSTREAM_CLUSTER%", "address": "%UPSTREAM_HOST%", "request-id": "%REQ(X-REQUEST-ID)%",
		"status": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%", "ms": "%DURATION%", "received": "%BYTES_RECEIVED%", "sent": "%BYTES_SENT%",
	})
	if err != nil {
		panic("xds: constant access log line: " + err.Error())
	}
	return []*accesslog.AccessLog{{
		Name: "envoy.access_loggers.file",
		ConfigType: &accesslog.AccessLog_TypedConfig{TypedConfig: packed(&filelog.FileAccessLog{Path: file,
			AccessLogFormat: &filelog.FileAccessLog_LogFormat{LogFormat: &core.SubstitutionFormatString{
				Format: &core.SubstitutionFormatString_JsonFormat{JsonFormat: line}}}})},
	}}
}

// withoutLog takes the access log out of a listener: for Envoys on machines whose
// files this region does not know.
func withoutLog(l *listener.Listener) {
	for _, c := range l.FilterChains {
		for _, f := range c.Filters {
			m := new(hcm.HttpConnectionManager)
			if f.GetTypedConfig().UnmarshalTo(m) == nil && len(m.AccessLog) > 0 {
				m.AccessLog = nil
				f.ConfigType = &listener.Filter_TypedConfig{TypedConfig: packed(m)}
			}
		}
	}
}
