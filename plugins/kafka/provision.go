package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Provision makes a topic for the flow and returns the address to hand out. Credentials are in it only if the operator says so.
func (s *sink) Provision(ctx context.Context, flow sdk.FlowContext, a sdk.DataAddress) (sdk.DataAddress, error) {
	a, err := s.resolve(flow, a)
	if err != nil {
		return sdk.DataAddress{}, err
	}
	d, err := newDestination(a)
	if err != nil {
		return sdk.DataAddress{}, err
	}
	c, err := s.env.connect(d.target)
	if err != nil {
		return sdk.DataAddress{}, err
	}
	defer c.close()
	set := s.env.settings
	configs := map[string]*string{}
	if set.Retention > 0 {
		text := strconv.FormatInt(time.Duration(set.Retention).Milliseconds(), 10)
		configs["retention.ms"] = &text
	}
	_, err = c.admin.CreateTopic(ctx, int32(set.Partitions), int16(set.ReplicationFactor), configs, d.topic)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return sdk.DataAddress{}, c.failure("make a topic for the flow", err)
	}
	return s.handedOut(d.target, a), nil
}

// resolve returns the address of the flow's own topic for one that names no topic: that which Provision makes.
func (s *sink) resolve(flow sdk.FlowContext, a sdk.DataAddress) (sdk.DataAddress, error) {
	if a.Get("topic") != "" {
		return a, nil
	}
	all := maps.Clone(s.env.settings.Provision)
	if all == nil {
		return a, sdk.InvalidFields([]sdk.FieldError{{Field: "topic", Message: "is required, because no brokers are configured to make topics at " +
			"(provision)"}})
	}
	maps.Copy(all, a.Properties)
	all["topic"] = s.env.settings.TopicPrefix + strings.TrimPrefix(flowName(flow), "towpath-")
	a.Properties = all
	return a, nil
}

// handedOut are the properties of a provisioned topic that a counterparty may see.
func (s *sink) handedOut(t *target, a sdk.DataAddress) sdk.DataAddress {
	out := sdk.DataAddress{Type: addressType, Properties: map[string]string{
		"topic":                   t.topic,
		"kafka.bootstrap.servers": strings.Join(t.servers, ","),
	}}
	for _, name := range []string{"kafka.security.protocol", "kafka.sasl.mechanism"} {
		if v := a.Get(name); v != "" {
			out.Properties[name] = v
		}
	}
	maps.Copy(out.Properties, s.env.settings.HandOut)
	out.Endpoint = "kafka://" + out.Get("kafka.bootstrap.servers")
	return out
}

// Deprovision removes the place that a transactional flow has kept, and its own topic if such topics are to be removed.
func (s *sink) Deprovision(ctx context.Context, flow sdk.FlowContext, a sdk.DataAddress) error {
	own := a.Get("topic") == ""
	a, err := s.resolve(flow, a)
	if err != nil {
		return err
	}
	d, err := newDestination(a)
	if err != nil {
		return err
	}
	if d.transactional {
		// The brokers forget the place by themselves after a while. That they cannot be reached any more, or do not allow it, is no reason
		// to ask for ever.
		if err := s.removePlace(ctx, d, flowName(flow)); err != nil {
			slog.Warn("the place of a flow stays with the brokers until they forget it", "group", flowName(flow), "err", err)
		}
	}
	if own && s.env.settings.RemoveTopics {
		return s.removeTopic(ctx, d)
	}
	return nil
}

func (s *sink) removePlace(ctx context.Context, d *destination, group string) error {
	c, err := s.env.connect(d.target)
	if err != nil {
		return err
	}
	defer c.close()
	if _, err := c.admin.DeleteGroup(ctx, group); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return c.failure("remove the place of a flow", err)
	}
	return nil
}

func (s *sink) removeTopic(ctx context.Context, d *destination) error {
	c, err := s.env.connect(d.target)
	if err != nil {
		return err
	}
	defer c.close()
	if _, err := c.admin.DeleteTopic(ctx, d.topic); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return c.failure("remove the topic of a flow", err)
	}
	return nil
}
