package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towpath-dataplane/towpath/host/access"
	"github.com/towpath-dataplane/towpath/host/config"
	"github.com/towpath-dataplane/towpath/host/publicapi"
	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

// accessHook returns what the public API asks about each request; nil if the configuration says nothing about that.
func accessHook(c *config.Access, metrics prometheus.Registerer, logger *slog.Logger) (func(context.Context, publicapi.AccessRequest) error, error) {
	if c == nil {
		return nil, nil
	}
	point, err := decisionPoint(c.DecisionPoint)
	if err != nil {
		return nil, err
	}
	control, err := access.New(access.Options{Rules: c.Rules, Point: point, Default: c.Default, Registerer: metrics, Logger: logger})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, r publicapi.AccessRequest) error {
		err := control.Decide(ctx, accessRequest(r))
		var denied *access.Denied
		if errors.As(err, &denied) {
			return &publicapi.AccessDenied{Reason: denied.Error()}
		}
		return err
	}, nil
}

// decisionPoint asks at the operator's own URL, wherever that is.
func decisionPoint(c *config.DecisionPoint) (*access.Point, error) {
	if c == nil {
		return nil, nil
	}
	only := &outbound.Policy{}
	if err := only.Trust(c.URL); err != nil {
		return nil, err
	}
	header := http.Header{}
	for name, value := range c.Headers {
		header.Set(name, value.Reveal())
	}
	return access.NewPoint(access.PointOptions{URL: c.URL, Timeout: c.Timeout, OnFailure: c.OnFailure, Header: header,
		Client: only.Client(outbound.Limits{Timeout: c.Timeout})}), nil
}

func accessRequest(r publicapi.AccessRequest) access.Request {
	f := r.Flow
	return access.Request{
		ParticipantContext: f.Context, Participant: f.ParticipantID, Counterparty: f.CounterPartyID, Agreement: f.AgreementID,
		Dataset: f.DatasetID, Flow: f.ID, Role: string(f.Role), Direction: string(f.Direction), Profile: f.Profile,
		ControlPlane: f.ControlPlane, Labels: f.Labels, Claims: f.Claims, Metadata: f.Metadata,
		Method: r.Method, Path: r.Path, Query: r.Query, Header: r.Header, Operation: r.Operation, Part: r.Part,
		RemoteAddress: r.RemoteAddr, Time: time.Now(),
	}
}
