import static org.eclipse.leshan.core.LwM2mId.DEVICE;
import static org.eclipse.leshan.core.LwM2mId.OSCORE;
import static org.eclipse.leshan.core.LwM2mId.SECURITY;
import static org.eclipse.leshan.core.LwM2mId.SERVER;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.HexFormat;
import java.util.List;
import org.eclipse.leshan.client.LeshanClient;
import org.eclipse.leshan.client.LeshanClientBuilder;
import org.eclipse.leshan.client.californium.endpoint.CaliforniumClientEndpointsProvider;
import org.eclipse.leshan.client.californium.endpoint.coap.CoapOscoreProtocolProvider;
import org.eclipse.leshan.client.engine.DefaultRegistrationEngineFactory;
import org.eclipse.leshan.client.object.Device;
import org.eclipse.leshan.client.object.Oscore;
import org.eclipse.leshan.client.object.Security;
import org.eclipse.leshan.client.object.Server;
import org.eclipse.leshan.client.observer.LwM2mClientObserverAdapter;
import org.eclipse.leshan.client.resource.LwM2mObjectEnabler;
import org.eclipse.leshan.client.resource.ObjectsInitializer;
import org.eclipse.leshan.client.servers.LwM2mServer;
import org.eclipse.leshan.core.ResponseCode;
import org.eclipse.leshan.core.oscore.OscoreSetting;
import org.eclipse.leshan.core.request.BootstrapRequest;
import org.eclipse.leshan.core.request.RegisterRequest;
import org.eclipse.leshan.core.request.UpdateRequest;

/**
 * A device on Leshan's client with OSCORE under CoAP. It says on stdout what happens and takes "update" and "stop" on
 * stdin.
 *
 * <p>Arguments: "register" and the URL of a server with sender ID, recipient ID, master secret and master salt (hex); or
 * "bootstrap" and the URL of a bootstrap server without security. Before them the endpoint name.
 */
public final class OscoreClient {

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static byte[] bytes(String hex) {
        return HexFormat.of().parseHex(hex);
    }

    public static void main(String[] arguments) throws Exception {
        String endpoint = arguments[0];
        String url = arguments[2];
        ObjectsInitializer objects = new ObjectsInitializer();
        objects.setInstancesForObject(DEVICE, new Device("Leshan", "oscore", "00-11-22"));
        if (arguments[1].equals("register")) {
            objects.setInstancesForObject(OSCORE, new Oscore(7, new OscoreSetting(
                    bytes(arguments[3]), bytes(arguments[4]), bytes(arguments[5]), (Integer) null, null,
                    bytes(arguments[6]))));
            objects.setInstancesForObject(SECURITY, Security.oscoreOnly(url, 123, 7));
            objects.setInstancesForObject(SERVER, new Server(123, 300));
        } else {
            objects.setClassForObject(OSCORE, Oscore.class);
            objects.setInstancesForObject(SECURITY, Security.noSecBootstrap(url));
            objects.setClassForObject(SERVER, Server.class);
        }
        List<LwM2mObjectEnabler> enablers = objects.create(SECURITY, SERVER, OSCORE, DEVICE);

        LeshanClientBuilder builder = new LeshanClientBuilder(endpoint);
        builder.setObjects(enablers);
        DefaultRegistrationEngineFactory engine = new DefaultRegistrationEngineFactory();
        engine.setRetryWaitingTimeInMs(1_000);
        builder.setRegistrationEngineFactory(engine);
        builder.setEndpointsProviders(
                new CaliforniumClientEndpointsProvider.Builder(new CoapOscoreProtocolProvider()).build());
        LeshanClient client = builder.build();
        client.addObserver(new LwM2mClientObserverAdapter() {
            @Override
            public void onBootstrapSuccess(LwM2mServer server, BootstrapRequest request) {
                say("bootstrapped");
            }

            @Override
            public void onBootstrapFailure(
                    LwM2mServer server, BootstrapRequest request, ResponseCode code, String text, Exception cause) {
                say("bootstrap refused " + code + " " + text + (cause == null ? "" : " " + cause));
            }

            @Override
            public void onRegistrationSuccess(LwM2mServer server, RegisterRequest request, String location) {
                say("registered " + server.getUri() + " " + location);
            }

            @Override
            public void onRegistrationFailure(
                    LwM2mServer server, RegisterRequest request, ResponseCode code, String text, Exception cause) {
                say("register refused " + code + " " + text + (cause == null ? "" : " " + cause));
            }

            @Override
            public void onRegistrationTimeout(LwM2mServer server, RegisterRequest request) {
                say("register silent");
            }

            @Override
            public void onUpdateSuccess(LwM2mServer server, UpdateRequest request) {
                say("updated");
            }

            @Override
            public void onUpdateFailure(
                    LwM2mServer server, UpdateRequest request, ResponseCode code, String text, Exception cause) {
                say("update refused " + code + " " + text + (cause == null ? "" : " " + cause));
            }

            @Override
            public void onUnexpectedError(Throwable error) {
                say("error " + error);
                error.printStackTrace();
            }
        });
        client.start();
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in));
        for (String line = orders.readLine(); line != null; line = orders.readLine()) {
            switch (line.trim()) {
                case "update" -> client.triggerRegistrationUpdate();
                case "stop" -> {
                    client.destroy(true);
                    say("stopped");
                    System.exit(0);
                }
                default -> say("unknown order " + line);
            }
        }
        client.destroy(true);
    }
}
