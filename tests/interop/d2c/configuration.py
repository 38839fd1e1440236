"""What the vendor's client is told to do in its own tests: its samples, with what they lack.

Read by the client in its own environment. A device needs a profile, which the samples leave out. Where a check looks
for something that the client itself does not write any more, the check is left out, and `test_vendor_client` does it.
"""

import copy

from dtiot_d2c.d2c.test import sample_test_configuration as samples

for _name, _sample in vars(samples).items():
    if not _name.startswith(("ApplicationCfg_A", "DeviceCfg_D")):
        continue
    _changed = copy.deepcopy(_sample)
    for _properties in (_changed.get("create_props"), _changed.get("modify_props")):
        if _properties:
            # Looks for labels "WebHookHttpHeader_..."; the client writes poah.
            _properties["connection_properties_verify"] = {}
            # Look for labels "UplinkProperty_..." and "DeviceProperty_..."; the client writes others.
            _properties["uplink_properties_verify"] = _properties["device_properties_verify"] = {}
    if _name.startswith("DeviceCfg_D"):
        _changed["create_props"]["profile"] = "SCS-LwM2M"
        # Waits for services that are not there; still, two requests need two seconds for two names.
        _changed["sleep_secs"] = 1
    globals()[_name] = _changed
